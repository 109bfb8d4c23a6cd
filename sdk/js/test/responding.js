/**
 * Returns a `fetchApi` that returns these responses, `[status, headers, body]`, in order, then the last one repeatedly.
 * Also returns the `methods` of the requests so far.
 */
export function responding(...responses) {
    const methods = [];
    const fetchApi = async (url, { method }) => {
        const [status, headers = {}, body = '{}'] = responses[Math.min(methods.length, responses.length - 1)];
        methods.push(method);
        return new Response(body, { status, headers });
    };
    return { fetchApi, methods };
}
