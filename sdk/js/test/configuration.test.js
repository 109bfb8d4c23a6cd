import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { afterEach, test } from 'node:test';

import { ApiError, Configuration, DefaultConfig, MeApi, TasksApi } from '@onehorizon/sdk-js';

import { created, listed, serve } from './serve.js';

const { version } = createRequire(import.meta.url)('@onehorizon/sdk-js/package.json');
const workspaceId = 'current';
const path = '/api/v1/workspaces/current/tasks';
const realFetch = globalThis.fetch;

afterEach(() => {
    globalThis.fetch = realFetch;
});

for (const [suffix, prefix] of [
    ['', ''],
    ['/', ''],
    ['//', ''],
    ['/api/v1', ''],
    ['/api/v1/', ''],
    ['/one', '/one'],
    ['/one/', '/one'],
    ['/one/api/v1/', '/one'],
]) {
    test(`basePath may end in "${suffix}"`, async (t) => {
        const { basePath, requests } = await serve(t, listed);
        const configuration = new Configuration({ accessToken: 'one_key', basePath: basePath + suffix });

        await new TasksApi(configuration).listTasks({ workspaceId });

        assert.equal(requests[0].url, prefix + path);
        assert.equal(configuration.basePath, basePath + prefix);
    });
}

test('an empty list in a query sends nothing', async (t) => {
    const { basePath, requests } = await serve(t, listed);
    const tasks = new TasksApi(new Configuration({ basePath }));

    await tasks.listTasks({ workspaceId, status: [], kind: [] });
    await tasks.listTasks({ workspaceId, status: [], scope: ['todo', 'ongoing'], limit: 1 });

    assert.deepEqual(requests.map(({ url }) => url), [path, `${path}?limit=1&scope=todo&scope=ongoing`]);
});

test('an API takes the parameters of a configuration too', async (t) => {
    const { basePath, requests } = await serve(t, listed);

    await new TasksApi({ accessToken: 'one_key', basePath: `${basePath}/` }).listTasks({ workspaceId });

    assert.equal(requests[0].url, path);
    assert.equal(requests[0].headers.authorization, 'Bearer one_key');
});

test('an API without a configuration throws ApiErrors and retries, like one with a configuration', async (t) => {
    const rateLimited = [429, { 'Retry-After': '0' }];
    const { basePath, requests } = await serve(t, rateLimited, listed, [404, {}, '{"message": "Not found."}']);
    globalThis.fetch = (url, init) => realFetch(url.replace('https://onehorizon.ai', basePath), init);
    const tasks = new TasksApi();

    assert.deepEqual(await tasks.listTasks({ workspaceId, status: [] }), { tasks: [], nextCursor: null });
    await assert.rejects(new TasksApi().listTasks({ workspaceId }), ApiError);

    assert.equal(requests[0].headers['user-agent'], `onehorizon-sdk-js/${version}`);
    assert.deepEqual(requests.map(({ url }) => url), [path, path, path]);
});

test('APIs without a configuration use DefaultConfig', async (t) => {
    const { basePath, requests } = await serve(t, listed);
    t.after(() => (DefaultConfig.config = new Configuration()));

    DefaultConfig.config = new Configuration({ accessToken: 'one_key', basePath });
    await new TasksApi().listTasks({ workspaceId });

    assert.equal(requests[0].headers.authorization, 'Bearer one_key');
});

const headers = { 'X-Request-Id': 'mine' };
for (const [name, init] of [
    ['an object', { headers }],
    ['Headers', { headers: new Headers(headers) }],
    ['pairs', { headers: Object.entries(headers) }],
    ['a function', async () => ({ headers })],
    ['a function that keeps the headers', async ({ init }) => ({ headers: { ...init.headers, ...headers } })],
]) {
    test(`headers of an init are added, as ${name}`, async (t) => {
        const { basePath, requests } = await serve(t, created);
        const configuration = new Configuration({ accessToken: 'one_key', basePath, headers: { 'X-Team': 'Core' } });

        await new TasksApi(configuration).createTask({ workspaceId, task: { title: 'Ship' } }, init);

        const sent = requests[0].headers;
        assert.equal(sent['x-request-id'], 'mine');
        assert.equal(sent['x-team'], 'Core');
        assert.equal(sent.authorization, 'Bearer one_key');
        assert.equal(sent['content-type'], 'application/json');
        assert.equal(sent['user-agent'], `onehorizon-sdk-js/${version}`);
    });
}

test('headers of an init replace those of the same name, in any case', async (t) => {
    const { basePath, requests } = await serve(t, listed);
    const configuration = new Configuration({ accessToken: 'one_key', basePath, headers: { 'user-agent': 'importer/1' } });

    await new TasksApi(configuration).listTasks({ workspaceId }, { headers: { authorization: 'Bearer one_other' } });

    assert.equal(requests[0].headers.authorization, 'Bearer one_other');
    assert.equal(requests[0].headers['user-agent'], 'importer/1');
});

test('an undefined header is not sent', async (t) => {
    const { basePath, requests } = await serve(t, listed);
    const init = { headers: { 'X-Team': undefined, Authorization: undefined } };

    await new TasksApi(new Configuration({ accessToken: 'one_key', basePath })).listTasks({ workspaceId }, init);

    assert.equal(requests[0].headers['x-team'], undefined);
    assert.equal(requests[0].headers.authorization, 'Bearer one_key');
});

for (const [name, accessToken] of [
    ['a string', 'one_key'],
    ['a promise', Promise.resolve('one_key')],
    ['a function', () => 'one_key'],
    ['an async function', async () => 'one_key'],
]) {
    test(`accessToken may be ${name}, for all APIs`, async (t) => {
        const { basePath, requests } = await serve(t, listed, [200, {}, '{"kind": "apiKey", "workspace": {}}']);
        const configuration = new Configuration({ accessToken, basePath });

        await new TasksApi(configuration).listTasks({ workspaceId });
        await new MeApi(configuration).whoAmI().catch(() => {}); // the body is not complete

        assert.deepEqual(
            requests.map(({ url, headers: { authorization } }) => [url, authorization]),
            [[path, 'Bearer one_key'], ['/api/v1/me', 'Bearer one_key']],
        );
    });
}

test('a function is called once per request for its access token', async (t) => {
    const { basePath } = await serve(t, listed);
    let calls = 0;
    const accessToken = async () => `token ${(calls += 1)}`;

    await new TasksApi(new Configuration({ accessToken, basePath })).listTasks({ workspaceId });

    assert.equal(calls, 1);
});
