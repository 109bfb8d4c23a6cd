import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ApiError, Configuration, FetchError, TasksApi } from '@onehorizon/sdk-js';

import { answering } from './answering.js';

const workspaceId = 'current';

function api(accessToken, options = {}) {
    return new TasksApi(new Configuration({ accessToken, basePath: process.env.SITE, ...options }));
}

async function caught(promise) {
    return promise.then(() => assert.fail('it was answered'), (error) => error);
}

test('a refusal is an exception with the code and the message of the envelope', async () => {
    const error = await caught(api(process.env.ONE_API_KEY).fetchTask({ workspaceId, taskId: 'tsk_0' }));

    assert.ok(error instanceof ApiError);
    assert.ok(error instanceof Error);
    assert.equal(error.name, 'ApiError');
    assert.equal(error.code, 404);
    assert.equal(error.message, 'Not found.');
    assert.deepEqual(error.errors, {});
    assert.ok(error.response.headers.get('RateLimit'));
});

test('what is wrong with each field is there', async () => {
    const error = await caught(api(process.env.ONE_API_KEY).createTask({ workspaceId, task: { title: '' } }));

    assert.equal(error.code, 400);
    assert.deepEqual(error.errors, { title: ['This field may not be blank.'] });
});

test('a key that is not valid is told so', async () => {
    const error = await caught(api('one_wrong').listTasks({ workspaceId }));

    assert.equal(error.code, 401);
    assert.equal(error.message, 'The API key or access token is not valid.');
});

test('an answer that is not from the API is an exception of the same kind', async () => {
    const error = await caught(api('one_key', answering([502, {}, '<html>'])).listTasks({ workspaceId }));

    assert.ok(error instanceof ApiError);
    assert.equal(error.code, 502);
    assert.equal(error.message, 'The answer was 502.');
});

test('nor must it be an object', async () => {
    const error = await caught(api('one_key', answering([500, {}, 'null'])).listTasks({ workspaceId }));

    assert.ok(error instanceof ApiError);
    assert.equal(error.code, 500);
});

test('no answer is another exception', async () => {
    const error = await caught(api('one_key', { basePath: 'http://127.0.0.1:9' }).listTasks({ workspaceId }));

    assert.ok(error instanceof FetchError);
});
