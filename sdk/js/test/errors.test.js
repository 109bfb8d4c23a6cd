import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ApiError, Configuration, FetchError, TasksApi } from '@onehorizon/sdk-js';

import { responding } from './responding.js';

const workspaceId = 'current';

function api(accessToken, options = {}) {
    return new TasksApi(new Configuration({ accessToken, basePath: process.env.SITE, ...options }));
}

async function caught(promise) {
    return promise.then(() => assert.fail('it succeeded'), (error) => error);
}

test('an error response throws an ApiError with its code and message', async () => {
    const error = await caught(api(process.env.ONE_API_KEY).fetchTask({ workspaceId, taskId: 'tsk_0' }));

    assert.ok(error instanceof ApiError);
    assert.ok(error instanceof Error);
    assert.equal(error.name, 'ApiError');
    assert.equal(error.code, 404);
    assert.equal(error.message, 'Not found.');
    assert.deepEqual(error.errors, {});
    assert.ok(error.response.headers.get('RateLimit'));
});

test('a 400 has the messages for each field', async () => {
    const error = await caught(api(process.env.ONE_API_KEY).createTask({ workspaceId, task: { title: '' } }));

    assert.equal(error.code, 400);
    assert.deepEqual(error.errors, { title: ['This field may not be blank.'] });
});

test('an invalid key gets a 401', async () => {
    const error = await caught(api('one_wrong').listTasks({ workspaceId }));

    assert.equal(error.code, 401);
    assert.equal(error.message, 'The API key or access token is not valid.');
});

test('a response that is not JSON throws an ApiError too', async () => {
    const error = await caught(api('one_key', responding([502, {}, '<html>'])).listTasks({ workspaceId }));

    assert.ok(error instanceof ApiError);
    assert.equal(error.code, 502);
    assert.equal(error.message, 'The server returned 502.');
});

test('a response that is not an object throws an ApiError too', async () => {
    const error = await caught(api('one_key', responding([500, {}, 'null'])).listTasks({ workspaceId }));

    assert.ok(error instanceof ApiError);
    assert.equal(error.code, 500);
});

test('no response throws a FetchError', async () => {
    const error = await caught(api('one_key', { basePath: 'http://127.0.0.1:9' }).listTasks({ workspaceId }));

    assert.ok(error instanceof FetchError);
});
