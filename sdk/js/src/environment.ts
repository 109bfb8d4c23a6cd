// The types of `fetch`, from whatever declares them in the user's project: the DOM library, or the types of Node.js,
// Deno, Bun or Workers. A project without any of them gets the declarations below, with what this package needs.
//
// The conditions are part of the declaration files, so TypeScript evaluates them in the user's project. Naming `Response`
// there directly would not compile without the DOM library.

type Instance<Name extends string, Fallback> = typeof globalThis extends Record<Name, { prototype: infer T }> ? T : Fallback;

interface FallbackAbortSignal {
    readonly aborted: boolean;
    readonly reason: any;
    throwIfAborted(): void;
    addEventListener(type: 'abort', listener: () => void, options?: { once?: boolean }): void;
    removeEventListener(type: 'abort', listener: () => void): void;
}

interface FallbackHeaders {
    get(name: string): string | null;
    has(name: string): boolean;
    forEach(callback: (value: string, name: string) => void): void;
}

interface FallbackResponse {
    readonly headers: Headers;
    readonly ok: boolean;
    readonly redirected: boolean;
    readonly status: number;
    readonly statusText: string;
    readonly url: string;
    clone(): Response;
    json(): Promise<any>;
    text(): Promise<string>;
}

interface FallbackRequestInit {
    body?: any;
    credentials?: RequestCredentials;
    headers?: { [name: string]: string } | [string, string][];
    method?: string;
    redirect?: 'error' | 'follow' | 'manual';
    signal?: AbortSignal | null;
}

export type AbortSignal = Instance<'AbortSignal', FallbackAbortSignal>;
export type Blob = Instance<'Blob', object>;
export type FormData = Instance<'FormData', object>;
export type Headers = Instance<'Headers', FallbackHeaders>;
export type RequestCredentials = 'include' | 'omit' | 'same-origin';
export type RequestInit = typeof globalThis extends { fetch: (input: any, init?: infer T) => any }
    ? NonNullable<T>
    : FallbackRequestInit;
export type Response = Instance<'Response', FallbackResponse>;
export type URLSearchParams = Instance<'URLSearchParams', object>;
type FetchInput = typeof globalThis extends { fetch: (input: infer T, init?: any) => any } ? T : string;
// A method, whose parameters may be narrower: a user's `fetchApi` may accept only strings, which are all it gets.
export interface WindowOrWorkerGlobalScope {
    fetch(input: FetchInput, init?: RequestInit): Promise<Response>;
}
