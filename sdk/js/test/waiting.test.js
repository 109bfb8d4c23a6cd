import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';

import { ApiError, ApiKeysApi, Configuration, FetchError, TasksApi } from '@onehorizon/sdk-js';

import { breakOff, caught, created, hangUp, html, listed, serve, stall, unusedUrl } from './serve.js';

process.env.TZ = 'Asia/Tokyo'; // the time zone of the client must not matter

const workspaceId = 'current';
const taskId = 'tsk_1';
const task = { title: 'Ship' };
const realTimeout = globalThis.setTimeout;
let waits;

/** Starts a server with these responses. Returns an API for it, and the server's requests. */
async function prepare(t, responses, options = {}) {
    const { basePath, requests } = await serve(t, ...responses);
    return { tasks: new TasksApi(new Configuration({ accessToken: 'one_key', basePath, ...options })), requests };
}

function assertBackoff(seconds, retries, retryAfter = 0) {
    assert.ok(seconds >= retryAfter + 2 ** retries / 2 && seconds <= retryAfter + 2 ** retries, `${waits}`);
}

// Records each wait of the SDK in seconds, and shortens a second to a millisecond. `fetch` has timers of its own.
beforeEach(() => {
    waits = [];
    globalThis.setTimeout = (act, milliseconds, ...rest) => {
        if (!new Error().stack.includes('/@onehorizon/sdk-js/')) return realTimeout(act, milliseconds, ...rest);
        waits.push(milliseconds / 1000);
        return realTimeout(act, milliseconds / 1000);
    };
});
afterEach(() => {
    globalThis.setTimeout = realTimeout;
});

test('the first retry after a 429 waits exactly for Retry-After, for every method', async (t) => {
    const rateLimited = [429, { 'Retry-After': '43' }];
    const { tasks, requests } = await prepare(t, [rateLimited, created, rateLimited, listed]);

    await tasks.createTask({ workspaceId, task });
    await tasks.listTasks({ workspaceId });

    assert.deepEqual(requests.map(({ method }) => method), ['POST', 'POST', 'GET', 'GET']);
    assert.deepEqual(waits, [43, 43]);
});

test('further retries after a 429 add exponential backoff with jitter, at most five times', async (t) => {
    const { tasks, requests } = await prepare(t, [[429, { 'Retry-After': '2' }, '{"code": 429, "message": "retry"}']]);

    await assert.rejects(tasks.listTasks({ workspaceId }), { code: 429, message: 'retry' });

    assert.equal(requests.length, 6);
    assert.equal(waits[0], 2);
    for (const retries of [1, 2, 3, 4]) assertBackoff(waits[retries], retries, 2);
});

const DATE = 'Mon, 23 Nov 2026 08:22:32 GMT';
for (const [retryAfter, seconds] of [
    ['Mon, 23 Nov 2026 08:22:39 GMT', 7],
    ['Monday, 23-Nov-26 08:22:39 GMT', 7],
    ['Mon Nov 23 08:22:39 2026', 7],
    [DATE, 0],
    ['Sun, 22 Nov 2026 08:22:32 GMT', 0],
    ['0', 0],
]) {
    test(`Retry-After: ${retryAfter} waits ${seconds} seconds, by the clock of the server`, async (t) => {
        const { tasks } = await prepare(t, [[429, { 'Retry-After': retryAfter, Date: DATE }], listed]);

        await tasks.listTasks({ workspaceId });

        assert.deepEqual(waits, [seconds]);
    });
}

test('Retry-After as a date uses the clock of the client if the response has no Date', async (t) => {
    const { tasks } = await prepare(t, [
        (_, response) => {
            response.sendDate = false;
            response.writeHead(429, { 'Retry-After': new Date(Date.now() + 50_000).toUTCString() }).end();
        },
        listed,
    ]);

    await tasks.listTasks({ workspaceId });

    assert.ok(waits[0] > 0 && waits[0] <= 50, `${waits}`);
});

for (const retryAfter of [undefined, '', '-5', '5.5', 'soon', 'soon 5', 'Monday', '1e3', '0x10']) {
    test(`a Retry-After that is missing or invalid is ignored: ${retryAfter}`, async (t) => {
        const headers = retryAfter === undefined ? {} : { 'Retry-After': retryAfter };
        const { tasks } = await prepare(t, [[429, headers], listed]);

        await tasks.listTasks({ workspaceId });

        assertBackoff(waits[0], 0);
    });
}

for (const retryAfter of ['61', '99999999999999999999999', 'Mon, 23 Nov 2026 08:23:33 GMT', 'Mon, 23 Nov 2099 08:23:33 GMT']) {
    test(`a Retry-After of more than 60 seconds is not retried: ${retryAfter}`, async (t) => {
        const { tasks, requests } = await prepare(t, [[429, { 'Retry-After': retryAfter, Date: DATE }]]);

        await assert.rejects(tasks.listTasks({ workspaceId }), ApiError);

        assert.deepEqual([requests.length, waits], [1, []]);
    });
}

for (const status of [502, 503, 504]) {
    test(`a ${status} is retried with exponential backoff, at most five times`, async (t) => {
        const { tasks, requests } = await prepare(t, [html(status)]);

        await assert.rejects(tasks.listTasks({ workspaceId }), { code: status });

        assert.equal(requests.length, 6);
        assert.equal(waits.length, 5);
        waits.forEach((seconds, retries) => assertBackoff(seconds, retries));
    });
}

test('a retry after a 503 waits for Retry-After and exponential backoff', async (t) => {
    const { tasks } = await prepare(t, [[503, { 'Retry-After': '5' }], [504], listed]);

    await tasks.listTasks({ workspaceId });

    assertBackoff(waits[0], 0, 5);
    assertBackoff(waits[1], 1);
});

for (const [name, response] of Object.entries({ hangUp, breakOff })) {
    test(`a connection error is retried at most twice: ${name}`, async (t) => {
        const { tasks, requests } = await prepare(t, [response, response, listed, response]);

        assert.deepEqual(await tasks.listTasks({ workspaceId }), { tasks: [], nextCursor: null });
        assert.equal(requests.length, 3);
        await assert.rejects(tasks.listTasks({ workspaceId }), FetchError);

        assert.equal(requests.length, 6);
        assert.equal(waits.length, 4);
        [0, 1, 0, 1].forEach((retries, index) => assertBackoff(waits[index], retries));
    });
}

test('a refused connection is retried at most twice', async () => {
    const tasks = new TasksApi(new Configuration({ basePath: await unusedUrl() }));

    await assert.rejects(tasks.listTasks({ workspaceId }), FetchError);

    assert.equal(waits.length, 2);
});

for (const [name, response] of Object.entries({ 502: [502], 503: [503], 504: [504], hangUp, breakOff })) {
    test(`a request that may have succeeded is retried only if repeating it is safe: ${name}`, async (t) => {
        const { tasks, requests } = await prepare(t, [response, response, response, [204]]);

        await assert.rejects(tasks.createTask({ workspaceId, task }));
        await assert.rejects(tasks.updateTask({ workspaceId, taskId, task }));
        await tasks.deleteTask({ workspaceId, taskId });

        assert.deepEqual(requests.map(({ method }) => method), ['POST', 'PATCH', 'DELETE', 'DELETE']);
    });

    test(`createApiKey is retried if it has an Idempotency-Key: ${name}`, async (t) => {
        const { basePath, requests } = await serve(t, response, [403, {}, '{"message": "Forbidden."}']);
        const keys = new ApiKeysApi(new Configuration({ accessToken: 'token', basePath }));
        const parameters = { workspaceId, apiKey: { description: 'CI' }, idempotencyKey: 'once' };

        await assert.rejects(keys.createApiKey(parameters), { code: 403 });

        assert.deepEqual(requests.map(({ headers }) => headers['idempotency-key']), ['once', 'once']);
    });

    test(`rotateApiKey is retried only if it has an Idempotency-Key: ${name}`, async (t) => {
        const forbidden = [403, {}, '{"message": "Forbidden."}'];
        const { basePath, requests } = await serve(t, response, response, forbidden);
        const keys = new ApiKeysApi(new Configuration({ accessToken: 'token', basePath }));
        const parameters = { workspaceId, apiKeyId: 'key_0' };

        await assert.rejects(keys.rotateApiKey(parameters));
        await assert.rejects(keys.rotateApiKey({ ...parameters, idempotencyKey: 'once' }), { code: 403 });

        assert.deepEqual(requests.map(({ headers }) => headers['idempotency-key']), [undefined, 'once', 'once']);
    });
}

test('other errors are not retried', async (t) => {
    const { tasks, requests } = await prepare(t, [[500], [404], [400], [501]]);

    for (const code of [500, 404, 400, 501]) await assert.rejects(tasks.listTasks({ workspaceId }), { code });

    assert.equal(requests.length, 4);
});

test('a request that could never be sent is not retried', async () => {
    const invalid = new TasksApi(new Configuration({ basePath: 'onehorizon.example' }));

    await assert.rejects(invalid.listTasks({ workspaceId }), FetchError);
    await assert.rejects(new TasksApi().listTasks({ workspaceId }, { headers: { 'X-Team': '…' } }));

    assert.deepEqual(waits, []);
});

test('retry: false turns retries off', async (t) => {
    const { tasks, requests } = await prepare(t, [[429, { 'Retry-After': '1' }], [503], hangUp], { retry: false });

    for (const error of [{ code: 429 }, { code: 503 }, FetchError]) {
        await assert.rejects(tasks.listTasks({ workspaceId }), error);
    }

    assert.deepEqual([requests.length, waits], [3, []]);
});

// What the request does when it is aborted, and a function that calls `act` then.
const MOMENTS = {
    'before it starts': [listed, (act) => act()],
    'while it waits for the response': [(_, response) => response.req.emit('arrived'), (act, arrived) => arrived.then(act)],
    'while it reads the body': [
        (request, response) => {
            response.writeHead(200, { 'Content-Type': 'application/json' });
            response.write('{"tasks": [', () => request.emit('arrived'));
        },
        (act, arrived) => arrived.then(act),
    ],
    'while it waits for a retry': [
        (request, response) => {
            response.writeHead(429, { 'Retry-After': '30' }).end();
            request.emit('arrived');
        },
        (act, arrived) => arrived.then(act),
    ],
};

for (const retry of [true, false]) {
    for (const [moment, [response, when]] of Object.entries(MOMENTS)) {
        if (moment === 'while it waits for a retry' && !retry) continue;
        for (const [name, reason] of [['AbortError'], ['a reason', new Error('stopped')], ['a string', 'stopped']]) {
            test(`abort ${moment} throws ${name}, with retry: ${retry}`, async (t) => {
                globalThis.setTimeout = realTimeout;
                const controller = new AbortController();
                let markArrived;
                const arrived = new Promise((resolve) => (markArrived = resolve));
                const answer = Array.isArray(response)
                    ? response
                    : (request, ...rest) => {
                          request.on('arrived', markArrived);
                          response(request, ...rest);
                      };
                const { tasks, requests } = await prepare(t, [answer], { retry });

                const aborted = when(() => controller.abort(reason), arrived);
                const thrown = await caught(tasks.listTasks({ workspaceId }, { signal: controller.signal }));
                await aborted;

                assert.equal(thrown, controller.signal.reason);
                assert.equal(reason ?? thrown.name, reason ?? 'AbortError');
                assert.equal(requests.length, moment === 'before it starts' ? 0 : 1);
            });
        }
    }
}

test('a timeout throws its TimeoutError', async (t) => {
    globalThis.setTimeout = realTimeout;
    const { tasks } = await prepare(t, [stall]);
    const signal = AbortSignal.timeout(50);

    const thrown = await caught(tasks.createTask({ workspaceId, task }, async () => ({ signal })));

    assert.equal(thrown.name, 'TimeoutError');
    assert.equal(thrown, signal.reason);
});

test("an abort by middleware's signal throws AbortError too", async (t) => {
    const { tasks } = await prepare(t, [stall]);
    const aborting = tasks.withPreMiddleware(async ({ url, init }) => ({ url, init: { ...init, signal: AbortSignal.abort() } }));

    await assert.rejects(aborting.listTasks({ workspaceId }), { name: 'AbortError' });
});

test('an aborted request is not sent by a fetchApi that ignores the signal', async () => {
    let calls = 0;
    const fetchApi = async () => new Response(listed[2], { status: (calls += 1) && 200 });
    const tasks = new TasksApi(new Configuration({ fetchApi }));

    await assert.rejects(tasks.listTasks({ workspaceId }, { signal: AbortSignal.abort() }), { name: 'AbortError' });

    assert.equal(calls, 0);
});
