// Adds methods that follow the pages of lists.
import type { RequestInit } from './environment.js';
import {
    type ListApiKeysRequest,
    type ListTasksRequest,
    ApiKeysApi as GeneratedApiKeysApi,
    TasksApi as GeneratedTasksApi,
} from './generated/apis/index.js';
import type { ApiKey, Task } from './generated/models/index.js';
import type { InitOverrideFunction } from './generated/runtime.js';

const MAX_LIMIT = 200; // the API's, so that a list needs few requests

export class TasksApi extends GeneratedTasksApi {
    /**
     * Lists all tasks, newest first, for `for await`. Requests each page when its first task is needed.
     *
     * `limit` is the number of tasks per request.
     */
    async *listAllTasks(
        requestParameters: ListTasksRequest,
        initOverrides?: RequestInit | InitOverrideFunction,
    ): AsyncGenerator<Task, void, undefined> {
        const parameters = { ...requestParameters, limit: requestParameters.limit ?? MAX_LIMIT };
        for (;;) {
            const { tasks, nextCursor } = await this.listTasks(parameters, initOverrides);
            yield* tasks;
            if (nextCursor === null) return;
            parameters.cursor = nextCursor;
        }
    }
}

export class ApiKeysApi extends GeneratedApiKeysApi {
    /**
     * Lists all keys, newest first, for `for await`. Requests each page when its first key is needed.
     *
     * `limit` is the number of keys per request.
     */
    async *listAllApiKeys(
        requestParameters: ListApiKeysRequest,
        initOverrides?: RequestInit | InitOverrideFunction,
    ): AsyncGenerator<ApiKey, void, undefined> {
        const parameters = { ...requestParameters, limit: requestParameters.limit ?? MAX_LIMIT };
        for (;;) {
            const { apiKeys, nextCursor } = await this.listApiKeys(parameters, initOverrides);
            yield* apiKeys;
            if (nextCursor === null) return;
            parameters.cursor = nextCursor;
        }
    }
}
