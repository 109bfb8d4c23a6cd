import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import { ApiError, Configuration, FetchError, ResponseError, TasksApi } from '@onehorizon/sdk-js';

import { breakOff, caught, html, listed, serve, unusedUrl } from './serve.js';

const workspaceId = 'current';
const task = { title: 'Ship' };

function api(accessToken, options = {}) {
    return new TasksApi(new Configuration({ accessToken, basePath: process.env.SITE, retry: false, ...options }));
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
    assert.deepEqual(await error.response.json(), { code: 404, message: 'Not found.' });
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

const unusual = ['', '<html>', 'null', '[1]', '"text"', '{}', '{"message": {"a": 1}}', '{"message": ""}', '{"errors": 1}'];
for (const body of unusual) {
    test(`an error response with the body ${body} throws an ApiError with a readable message`, async (t) => {
        const { basePath } = await serve(t, [500, {}, body]);

        const error = await caught(api('one_key', { basePath }).listTasks({ workspaceId }));

        assert.ok(error instanceof ApiError);
        assert.equal(error.code, 500);
        assert.match(error.message, /^The server returned 500 Internal Server Error .*This is not a response of the API/);
        assert.deepEqual(error.errors, {});
        assert.equal(await error.response.text(), body);
    });
}

test('errors contains only lists of messages', async (t) => {
    const body = '{"code": 400, "message": "Invalid.", "errors": {"title": ["Too long."], "kind": {"a": 1}, "scope": "?"}}';
    const { basePath } = await serve(t, [400, {}, body]);

    const error = await caught(api('one_key', { basePath }).createTask({ workspaceId, task }));

    assert.deepEqual([error.message, error.errors], ['Invalid.', { title: ['Too long.'] }]);
});

test("the HTML of a proxy's 502 is reported as such", async (t) => {
    const { basePath } = await serve(t, html(502));

    const error = await caught(api('one_key', { basePath }).listTasks({ workspaceId }));

    assert.ok(error instanceof ApiError);
    assert.equal(
        error.message,
        `The server returned 502 Bad Gateway (text/html, from ${basePath}/api/v1/workspaces/current/tasks). ` +
            'This is not a response of the API: a proxy or a login page may have sent it, or basePath is wrong.',
    );
});

const notTheApi = [html(200), [200], [200, {}, 'null'], [200, {}, '[]'], [200, {}, '"ok"'], [200, {}, '{}'], [204]];
for (const response of notTheApi) {
    test(`a success that is not the API's throws a ResponseError: ${JSON.stringify(response)}`, async (t) => {
        const { basePath } = await serve(t, response);

        const error = await caught(api('one_key', { basePath }).listTasks({ workspaceId }));

        assert.ok(error instanceof ResponseError);
        assert.match(error.message, new RegExp(`^The server returned ${response[0]} .*This is not a response of the API`));
        assert.equal(await error.response.text(), response[2] ?? '');
    });
}

test("a success that is not the API's throws a ResponseError, where the API has no body", async (t) => {
    const { basePath } = await serve(t, html(200), [204]);

    const error = await caught(api('one_key', { basePath }).deleteTask({ workspaceId, taskId: 'tsk_1' }));
    assert.equal(await api('one_key', { basePath }).deleteTask({ workspaceId, taskId: 'tsk_1' }), undefined);

    assert.ok(error instanceof ResponseError);
    assert.match(error.message, /^The server returned 200 OK \(text\/html, from /);
});

test('the message names the page that a request was redirected to, without its query', async (t) => {
    const { basePath } = await serve(t, [302, { Location: '/login?next=secret' }], html(200));

    const error = await caught(api('one_key', { basePath }).listTasks({ workspaceId }));

    assert.match(error.message, new RegExp(`from ${basePath}/login\\)`));
});

test('no response throws a FetchError that says why', async () => {
    const basePath = await unusedUrl();

    const error = await caught(api('one_key', { basePath }).listTasks({ workspaceId }));

    assert.ok(error instanceof FetchError);
    assert.match(error.message, /^The request to http:\/\/127.0.0.1:\d+ failed: connect ECONNREFUSED/);
    assert.ok(error.cause instanceof Error);
});

test('a response that breaks off throws a FetchError', async (t) => {
    const { basePath } = await serve(t, breakOff);

    const error = await caught(api('one_key', { basePath }).listTasks({ workspaceId }));

    assert.ok(error instanceof FetchError);
    assert.match(error.message, /^The request to http:\/\/127.0.0.1:\d+ failed: /);
});

test('an invalid basePath throws a FetchError at once', async () => {
    for (const basePath of ['', 'onehorizon.example']) {
        const tasks = api('one_key', { basePath, retry: true });

        const error = await caught(tasks.listTasks({ workspaceId }));

        assert.ok(error instanceof FetchError);
        assert.match(error.message, /Invalid URL/);
    }
});

test('instanceof ApiError works across the ESM and CommonJS builds, and for subclasses', async (t) => {
    const sdk = createRequire(import.meta.url)('@onehorizon/sdk-js');
    const { basePath } = await serve(t, [404, {}, '{"code": 404, "message": "Not found."}']);
    class SpecialError extends ApiError {}

    const imported = await caught(api('one_key', { basePath }).listTasks({ workspaceId }));
    const required = await caught(new sdk.TasksApi(new sdk.Configuration({ basePath })).listTasks({ workspaceId }));

    assert.notEqual(ApiError, sdk.ApiError);
    assert.ok(imported instanceof sdk.ApiError);
    assert.ok(required instanceof ApiError);
    assert.ok(new SpecialError(404, '', {}, imported.response) instanceof ApiError);
    assert.ok(!(imported instanceof SpecialError));
    for (const other of [new Error('no'), null, undefined, 'ApiError', {}]) assert.ok(!(other instanceof ApiError));
});

test('all middleware sees rejected responses, before they throw', async (t) => {
    const { basePath } = await serve(t, [409, {}, '{"code": 409, "message": "Conflict."}']);
    const seen = [];
    const middleware = (name) => ({ post: async ({ response }) => void seen.push(`${name} ${response.status}`) });
    const tasks = api('one_key', { basePath, middleware: [middleware('configuration')] });

    for (const [name, extended] of [
        ['withMiddleware', tasks.withMiddleware(middleware('withMiddleware'))],
        ['withPostMiddleware', tasks.withPostMiddleware(middleware('withPostMiddleware').post)],
    ]) {
        assert.ok(extended instanceof TasksApi);
        await assert.rejects(extended.listTasks({ workspaceId }), { name: 'ApiError', code: 409 });
        assert.deepEqual(seen.splice(0), ['configuration 409', `${name} 409`]);
    }
});

test('middleware can replace a request and a rejected response', async (t) => {
    const { basePath, requests } = await serve(t, [404]);
    const tasks = api('one_key', { basePath })
        .withPreMiddleware(async ({ url, init }) => ({ url: `${url}?limit=1`, init }))
        .withPostMiddleware(async () => new Response(listed[2]));

    assert.deepEqual(await tasks.listTasks({ workspaceId }), { tasks: [], nextCursor: null });
    assert.equal(requests[0].url, '/api/v1/workspaces/current/tasks?limit=1');
});

test('an error that middleware throws is not changed', async (t) => {
    const { basePath } = await serve(t, listed);
    const thrown = new Error('mine');
    const tasks = api('one_key', { basePath }).withPostMiddleware(() => Promise.reject(thrown));

    assert.equal(await caught(tasks.listTasks({ workspaceId })), thrown);
});

test('an invalid key throws an error that does not contain it', async () => {
    for (const accessToken of ['one_secret_\u2026', 'one_secret\nX']) {
        const error = await caught(api(accessToken).listTasks({ workspaceId }));

        assert.match(error.message, /^The access token or key contains a character that is not valid/);
        assert.doesNotMatch(`${error.stack}${error.cause}`, /one_secret/);
    }
});

test('white space after a key is not sent', async (t) => {
    const { basePath, requests } = await serve(t, listed);

    await api('one_key\n', { basePath }).listTasks({ workspaceId });

    assert.equal(requests[0].headers.authorization, 'Bearer one_key');
});
