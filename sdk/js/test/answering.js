/**
 * A `fetchApi` that gives these answers, `[status, headers, body]`, the last one over and over, and the `methods` that it
 * was asked by.
 */
export function answering(...answers) {
    const methods = [];
    const fetchApi = async (url, { method }) => {
        const [status, headers = {}, body = '{}'] = answers[Math.min(methods.length, answers.length - 1)];
        methods.push(method);
        return new Response(body, { status, headers });
    };
    return { fetchApi, methods };
}
