// `tests/system/sdk/test_js.py` prepares the workspace.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ApiKeysApi, Configuration, TasksApi } from '@onehorizon/sdk-js';

import { serve } from './serve.js';

const workspaceId = 'current';
const basePath = process.env.SITE;
const tasks = new TasksApi(new Configuration({ accessToken: process.env.ONE_API_KEY, basePath }));

async function collect(items, name) {
    const collected = [];
    for await (const item of items) collected.push(item[name]);
    return collected;
}

test('listAllTasks yields the tasks of all pages that match the filters', async () => {
    for (const title of ['One', 'Two', 'Three']) {
        await tasks.createTask({ workspaceId, task: { title, status: 'blocked' } });
    }
    await tasks.createTask({ workspaceId, task: { title: 'Other', status: 'review' } });
    const requests = [];
    const counting = tasks.withPreMiddleware(async ({ url }) => void requests.push(url));

    assert.deepEqual(
        await collect(counting.listAllTasks({ workspaceId, status: ['blocked'], limit: 2 }), 'title'),
        ['Three', 'Two', 'One'],
    );
    assert.equal(requests.length, 2);
    assert.deepEqual(await collect(tasks.listAllTasks({ workspaceId, kind: ['bug'] }), 'title'), []);
});

test('listAllTasks requests no page before its tasks are needed', async () => {
    const requests = [];
    const counting = tasks.withPreMiddleware(async ({ url }) => void requests.push(url));

    for await (const task of counting.listAllTasks({ workspaceId, limit: 1 })) {
        assert.equal(task.title, 'Other');
        break;
    }

    assert.equal(requests.length, 1);
});

test('listAllTasks starts at a cursor, and asks for 200 tasks at once', async (t) => {
    const { basePath, requests } = await serve(
        t,
        [200, {}, '{"tasks": [], "nextCursor": "second"}'],
        [200, {}, '{"tasks": [], "nextCursor": null}'],
    );
    const tasks = new TasksApi(new Configuration({ basePath }));

    await collect(tasks.listAllTasks({ workspaceId, cursor: 'first', limit: undefined }), 'title');

    assert.deepEqual(
        requests.map(({ url }) => url.split('?')[1]),
        ['limit=200&cursor=first', 'limit=200&cursor=second'],
    );
});

test('listAllTasks throws errors, and can be aborted', async () => {
    const signal = AbortSignal.abort();

    await assert.rejects(collect(tasks.listAllTasks({ workspaceId: 'w_0' }), 'title'), { code: 404 });
    await assert.rejects(collect(tasks.listAllTasks({ workspaceId }, { signal }), 'title'), { name: 'AbortError' });
});

test('listAllApiKeys yields the keys of all pages', async () => {
    const keys = new ApiKeysApi(new Configuration({ accessToken: process.env.ACCESS_TOKEN, basePath }));
    for (const description of ['One', 'Two']) await keys.createApiKey({ workspaceId, apiKey: { description } });

    const listed = await collect(keys.listAllApiKeys({ workspaceId, limit: 2 }), 'description');
    const revoked = await collect(keys.listAllApiKeys({ workspaceId, status: 'revoked' }), 'description');

    assert.deepEqual(listed.slice(0, 2), ['Two', 'One']);
    assert.equal(listed.length, 3);
    assert.deepEqual(revoked, []);
});
