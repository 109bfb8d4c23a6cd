// Compiled, not run.
import sdk = require('@onehorizon/sdk-js');

const tasks = new sdk.TasksApi(new sdk.Configuration({ accessToken: process.env.ONE_API_KEY, retry: false }));
tasks.listTasks({ workspaceId: 'current' }).then(
    ({ nextCursor }) => console.log(nextCursor),
    (error: unknown) => console.log(error instanceof sdk.ApiError && error.code),
);
