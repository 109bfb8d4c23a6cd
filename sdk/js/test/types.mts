// Compiled, not run.
import {
    ApiError,
    ApiKeysApi,
    Configuration,
    ResponseError,
    TasksApi,
    type ApiKey,
    type ConfigurationParameters,
    type Middleware,
    type NewTask,
    type PreviousSecret,
    type RotatedApiKey,
    type Task,
    type TaskChanges,
    type TaskList,
    type TaskStatus,
} from '@onehorizon/sdk-js';

const parameters: ConfigurationParameters = {
    accessToken: process.env.ONE_API_KEY, // which may be undefined
    basePath: process.env.SITE,
    headers: undefined,
    retry: undefined,
};
const logged: Middleware = {
    pre: async ({ url, init }) => ({ url, init: { ...init, headers: { 'X-Request-Id': 'mine' } } }),
    post: async ({ url, response }) => console.log(url, response.status, response.headers.get('RateLimit')),
};
const tasks: TasksApi = new TasksApi(new Configuration(parameters)).withMiddleware(logged);
void new TasksApi(parameters);
const keys = new ApiKeysApi(new Configuration({ accessToken: async () => 'token' }));
const workspaceId = 'current';

const page: TaskList = await tasks.listTasks({ workspaceId, status: ['open'], kind: undefined, cursor: undefined });
const cursor: string | null = page.nextCursor;
const status: TaskStatus | undefined = page.tasks[0]?.status;
const task: Task = await tasks.fetchTask({ workspaceId, taskId: 'tsk_0' }, { headers: { 'X-Request-Id': 'mine' } });
const always: TaskStatus = task.status;
const completedAt: Date | null = (await tasks.updateTask({ ...task, task: { ...task, status: 'completed' } })).completedAt;
await tasks.createTask({ workspaceId, task: { title: 'Ship', description: undefined } });
const changes: TaskChanges = { status: 'review', description: undefined };
await tasks.updateTask({ workspaceId, taskId: 'tsk_0', task: changes });
const copy: NewTask = { ...task, title: 'Copy' };
await tasks.createTask({ workspaceId, task: copy });
await keys.createApiKey({ workspaceId, apiKey: { description: 'CI' }, idempotencyKey: undefined });
const rotated: RotatedApiKey = await keys.rotateApiKey({ workspaceId, apiKeyId: 'key_0' });
const newSecret: string | undefined = rotated.secret;
const previous: PreviousSecret | null = rotated.previousSecret;
await keys.rotateApiKey({ workspaceId, apiKeyId: 'key_0', rotation: { overlapSeconds: 0 }, idempotencyKey: 'once' });
await keys.rotateApiKey({ workspaceId, apiKeyId: 'key_0', rotation: undefined, idempotencyKey: undefined });
// @ts-expect-error: a number
await keys.rotateApiKey({ workspaceId, apiKeyId: 'key_0', rotation: { overlapSeconds: '60' } });
const ended: void = await keys.endPreviousSecret({ workspaceId, apiKeyId: rotated.apiKeyId });
console.log(newSecret, rotated.notice, previous?.endsAt.toISOString(), previous?.lastUsedAt, ended);
// @ts-expect-error: no such status
await tasks.createTask({ workspaceId, task: { title: 'Ship', status: 'done' } });
// @ts-expect-error: the title is missing
await tasks.createTask({ workspaceId, task: {} });
for await (const listed of tasks.listAllTasks({ workspaceId })) console.log(listed satisfies Task);
for await (const listed of keys.listAllApiKeys({ workspaceId })) console.log(listed satisfies ApiKey);
const raw: string = await (await tasks.listTasksRaw({ workspaceId })).raw.text();

try {
    await tasks.deleteTask({ workspaceId, taskId: task.taskId });
} catch (error) {
    if (error instanceof ApiError) {
        const values: [number, string, string[] | undefined] = [error.code, error.message, error.errors.title];
        const requestId: string | null = error.response.headers.get('X-Request-Id');
        console.log(values, requestId, cursor, status, always, completedAt, raw);
    } else if (error instanceof ResponseError) {
        console.log(error.response.url);
    }
}
