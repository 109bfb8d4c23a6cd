// Compiled, not run.
import { ApiError, Configuration, TasksApi, type Task, type TaskList, type TaskStatus } from '@onehorizon/sdk-js';

const tasks = new TasksApi(new Configuration({ accessToken: process.env.ONE_API_KEY, retry: false }));
const workspaceId = 'current';

const { tasks: listed, nextCursor }: TaskList = await tasks.listTasks({ workspaceId, status: ['open'] });
const cursor: string | null = nextCursor;
const status: TaskStatus | undefined = listed[0]?.status;
const task: Task = await tasks.fetchTask({ workspaceId, taskId: 'tsk_0' });
const completedAt: Date | null = (await tasks.updateTask({ ...task, task: { ...task, status: 'completed' } })).completedAt;
// @ts-expect-error: no such status
await tasks.createTask({ workspaceId, task: { title: 'Ship', status: 'done' } });
try {
    await tasks.deleteTask({ workspaceId, taskId: task.taskId });
} catch (error) {
    if (error instanceof ApiError) {
        const said: [number, string, string[] | undefined] = [error.code, error.message, error.errors.title];
        console.log(said, cursor, status, completedAt);
    }
}
