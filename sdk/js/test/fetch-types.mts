// Compiled, not run: where the project declares `fetch`, the SDK's types are the same ones.
import { ApiError, Configuration, TasksApi, type FetchAPI } from '@onehorizon/sdk-js';

const send: FetchAPI = (input, init) => fetch(input, init);
const configuration = new Configuration({ fetchApi: fetch });
const tasks = new TasksApi(new Configuration({ fetchApi: async (url: string, init?: RequestInit) => send(url, init) }));
const init: RequestInit = { signal: AbortSignal.timeout(1000), headers: new Headers({ 'X-Request-Id': 'mine' }) };

const response: Response = (await tasks.listTasksRaw({ workspaceId: 'current' }, init)).raw;
const replaced = tasks.withPostMiddleware(async () => new Response('{}'));
const errorResponse: Response = new ApiError(404, 'Not found.', {}, response).response;
const answer: Response = await send('https://onehorizon.ai', init);
console.log(configuration, replaced, errorResponse, answer);
