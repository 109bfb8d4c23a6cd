import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';

import { ApiError, Configuration, TasksApi } from '@onehorizon/sdk-js';

import { responding } from './responding.js';

const workspaceId = 'current';
const task = { title: 'Ship' };
const created = [201, {}, '{"taskId": "tsk_1", "contributors": [], "createdAt": "2026-11-23T08:22:32Z"}'];
const listed = [200, {}, '{"tasks": [], "nextCursor": null}'];
const realTimeout = globalThis.setTimeout;
let waits;

function api(fetchApi, options = {}) {
    return new TasksApi(new Configuration({ accessToken: 'one_key', fetchApi, ...options }));
}

// Records each wait in seconds, and shortens a second to a millisecond.
beforeEach(() => {
    waits = [];
    globalThis.setTimeout = (act, milliseconds) => {
        waits.push(milliseconds / 1000);
        return realTimeout(act, milliseconds / 1000);
    };
});
afterEach(() => {
    globalThis.setTimeout = realTimeout;
});

test('the first retry after a 429 waits exactly for Retry-After, for every method', async () => {
    const rateLimited = [429, { 'Retry-After': '43' }];
    const { fetchApi, methods } = responding(rateLimited, created, rateLimited, listed);

    await api(fetchApi).createTask({ workspaceId, task });
    await api(fetchApi).listTasks({ workspaceId });

    assert.deepEqual(methods, ['POST', 'POST', 'GET', 'GET']);
    assert.deepEqual(waits, [43, 43]);
});

test('further retries after a 429 add exponential backoff with jitter, at most five times', async () => {
    const { fetchApi, methods } = responding([429, { 'Retry-After': '2' }, '{"code": 429, "message": "retry"}']);

    await assert.rejects(api(fetchApi).listTasks({ workspaceId }), { code: 429, message: 'retry' });

    assert.equal(methods.length, 6);
    assert.equal(waits[0], 2);
    for (const retries of [1, 2, 3, 4]) {
        assert.ok(waits[retries] >= 2 + 2 ** retries / 2, `${waits}`);
        assert.ok(waits[retries] <= 2 + 2 ** retries, `${waits}`);
    }
});

test('a Retry-After of more than 60 seconds is not retried', async () => {
    const { fetchApi, methods } = responding([429, { 'Retry-After': '61' }]);

    await assert.rejects(api(fetchApi).listTasks({ workspaceId }), ApiError);

    assert.deepEqual([methods.length, waits.length], [1, 0]);
});

test('a retry after a 503 waits for Retry-After and exponential backoff', async () => {
    const { fetchApi, methods } = responding([503, { 'Retry-After': '5' }], [503], listed);

    await api(fetchApi).listTasks({ workspaceId });

    assert.equal(methods.length, 3);
    assert.ok(waits[0] >= 5.5 && waits[0] <= 6, `${waits}`);
    assert.ok(waits[1] >= 1 && waits[1] <= 2, `${waits}`);
});

test('POST and PATCH are not retried after a 503', async () => {
    const { fetchApi, methods } = responding([503, { 'Retry-After': '5' }]);

    await assert.rejects(api(fetchApi).createTask({ workspaceId, task }), { code: 503 });
    await assert.rejects(api(fetchApi).updateTask({ workspaceId, taskId: 'tsk_1', task }), { code: 503 });

    assert.deepEqual(methods, ['POST', 'PATCH']);
});

test('other errors are not retried', async () => {
    const { fetchApi, methods } = responding([500], [404], [400]);

    for (const code of [500, 404, 400]) await assert.rejects(api(fetchApi).listTasks({ workspaceId }), { code });

    assert.equal(methods.length, 3);
});

test('retry: false turns retries off', async () => {
    const { fetchApi, methods } = responding([429, { 'Retry-After': '1' }]);

    await assert.rejects(api(fetchApi, { retry: false }).listTasks({ workspaceId }), { code: 429 });

    assert.deepEqual([methods.length, waits.length], [1, 0]);
});

test('an aborted request stops waiting', async () => {
    globalThis.setTimeout = realTimeout;
    const { fetchApi } = responding([429, { 'Retry-After': '30' }]);
    const started = Date.now();
    const signal = AbortSignal.timeout(200);

    await assert.rejects(api(fetchApi).listTasks({ workspaceId }, { signal }), (error) => error.cause === signal.reason);

    assert.ok(Date.now() - started < 10_000);
});
