import { once } from 'node:events';
import { createServer } from 'node:http';

/**
 * Starts a server for a test (`t`). It sends these responses in order, then the last one repeatedly. A response is
 * `[status, headers, body]`, or a function of Node's request and response. Returns the server's URL as `basePath`, and
 * the `requests` so far.
 */
export async function serve(t, ...responses) {
    const requests = [];
    const server = createServer(async (request, response) => {
        const answer = responses[Math.min(requests.length, responses.length - 1)];
        const { method, url, headers } = request;
        requests.push({ method, url, headers });
        if (typeof answer === 'function') return answer(request, response);
        const [status, extra = {}, body = ''] = answer;
        response.writeHead(status, { 'Content-Type': 'application/json', ...extra }).end(body);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
        server.closeAllConnections();
        server.close();
    });
    return { basePath: `http://127.0.0.1:${server.address().port}`, requests };
}

/** Returns a URL whose connections are refused. */
export async function unusedUrl() {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    server.close();
    await once(server, 'close');
    return `http://127.0.0.1:${port}`;
}

/** Closes the connection without a response. */
export const hangUp = (request) => request.socket.destroy();

/** Closes the connection in the middle of the body. */
export const breakOff = (request, response) => {
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': '100' });
    response.write('{"tasks": [', () => request.socket.destroy());
};

/** Never responds. */
export const stall = () => {};

export const html = (status) => [status, { 'Content-Type': 'text/html; charset=utf-8' }, '<html>Sign in</html>'];
export const listed = [200, {}, '{"tasks": [], "nextCursor": null}'];
export const created = [
    201,
    {},
    JSON.stringify({
        taskId: 'tsk_1',
        workspaceId: 'w_1',
        title: 'Ship',
        description: '',
        status: 'open',
        kind: 'task',
        scope: 'todo',
        visibility: 'team',
        userId: null,
        contributors: [],
        createdAt: '2026-11-23T08:22:32Z',
        updatedAt: '2026-11-23T08:22:32Z',
        completedAt: null,
    }),
];

export async function caught(promise) {
    return promise.then(
        () => Promise.reject(new Error('it succeeded')),
        (error) => error,
    );
}
