import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import {
    ApiKeysApi,
    Configuration,
    MeApi,
    TaskKind,
    TasksApi,
    TaskStatus,
    UsageInterval,
    WorkspacesApi,
} from '@onehorizon/sdk-js';

const workspaceId = 'current';
const basePath = process.env.SITE;
const config = new Configuration({ accessToken: process.env.ONE_API_KEY, basePath });
const tasks = new TasksApi(config);

test('a task is created, fetched, updated by spreading it, and deleted', async () => {
    const task = { title: 'Ship the billing page', kind: TaskKind.Bug };
    const created = await tasks.createTask({ workspaceId, task });
    const { taskId } = created;
    const fetched = await tasks.fetchTask({ workspaceId, taskId });
    const updated = await tasks.updateTask({
        workspaceId,
        taskId,
        task: { ...fetched, status: TaskStatus.Completed },
    });

    assert.deepEqual({ ...fetched, updatedAt: created.updatedAt }, created);
    assert.equal(created.kind, 'bug');
    assert.equal(created.userId, null);
    assert.ok(created.createdAt instanceof Date);
    assert.equal(created.completedAt, null);
    assert.equal(updated.status, 'completed');
    assert.ok(updated.completedAt instanceof Date);

    assert.equal(await tasks.deleteTask({ workspaceId, taskId }), undefined);
    await assert.rejects(tasks.fetchTask({ workspaceId, taskId }), { code: 404 });
});

test('tasks are listed by filters, page by page', async () => {
    for (const title of ['One', 'Two', 'Three']) {
        await tasks.createTask({ workspaceId, task: { title, status: 'blocked' } });
    }
    const status = ['blocked', 'review'];

    const first = await tasks.listTasks({ workspaceId, status, limit: 2 });
    const second = await tasks.listTasks({ workspaceId, status, limit: 2, cursor: first.nextCursor });

    assert.deepEqual(Object.keys(first), ['tasks', 'nextCursor']);
    assert.deepEqual(first.tasks.map((task) => task.title), ['Three', 'Two']);
    assert.deepEqual(second.tasks.map((task) => task.title), ['One']);
    assert.equal(second.nextCursor, null);
});

test('a key gets its principal and workspace', async () => {
    const me = await new MeApi(config).whoAmI();
    const workspaces = new WorkspacesApi(config);

    assert.equal(me.kind, 'apiKey');
    assert.deepEqual(await workspaces.fetchWorkspace({ workspaceId }), me.workspace);
    assert.deepEqual(await workspaces.listWorkspaces(), { workspaces: [me.workspace] });
    assert.deepEqual((await workspaces.listMembers({ workspaceId })).members.map((member) => member.role), [
        'owner',
        'admin',
        'member',
    ]);
});

test('a key gets the usage of its workspace in a period', async () => {
    const [from, to] = [new Date('2026-11-23T02:30:00Z'), new Date('2026-11-24T00:00:00Z')];
    const workspaces = new WorkspacesApi(config);

    const usage = await workspaces.workspaceUsage({ workspaceId, from, to, interval: UsageInterval.Day });

    const counts = { admitted: 0, rejected: 0, clientErrors: 0, serverErrors: 0 };
    assert.deepEqual([usage.from, usage.to], [new Date('2026-11-23T00:00:00Z'), to]);
    assert.deepEqual(usage.points, [{ at: usage.from, ...counts }]);
    assert.deepEqual([usage.interval, usage.total, usage.apiKeys], ['day', counts, []]);
});

test('a user manages keys with an access token', async () => {
    const keys = new ApiKeysApi(new Configuration({ accessToken: async () => process.env.ACCESS_TOKEN, basePath }));
    const parameters = { workspaceId, apiKey: { description: 'Deploys' }, idempotencyKey: 'once' };

    const created = await keys.createApiKey(parameters);
    const repeated = await keys.createApiKey(parameters);
    const { apiKeyId } = created;
    const renamed = await keys.updateApiKey({ workspaceId, apiKeyId, apiKey: { description: 'CI' } });
    await keys.revokeApiKey({ workspaceId, apiKeyId });

    assert.match(created.secret, /^one_/);
    assert.equal(repeated.secret, undefined);
    assert.match(repeated.notice, /Idempotency-Key/);
    assert.equal(renamed.description, 'CI');
    assert.equal((await keys.fetchApiKey({ workspaceId, apiKeyId })).status, 'revoked');
    assert.equal((await keys.listApiKeys({ workspaceId })).activeCount, 1);
});

test('a user rotates a key with an access token', async () => {
    const keys = new ApiKeysApi(new Configuration({ accessToken: process.env.ACCESS_TOKEN, basePath }));
    const whoAmI = (accessToken) => new MeApi(new Configuration({ accessToken, basePath })).whoAmI();
    const { apiKeyId, secret, maskedKey } = await keys.createApiKey({ workspaceId, apiKey: { description: 'CI' } });
    const parameters = { workspaceId, apiKeyId, rotation: { overlapSeconds: 60 }, idempotencyKey: 'once' };

    const rotated = await keys.rotateApiKey(parameters);
    const repeated = await keys.rotateApiKey(parameters);

    assert.match(rotated.secret, /^one_/);
    assert.equal(rotated.notice, undefined);
    assert.equal(rotated.previousSecret.maskedKey, maskedKey);
    assert.ok(rotated.previousSecret.endsAt instanceof Date);
    assert.equal(rotated.previousSecret.lastUsedAt, null);
    assert.equal(repeated.secret, undefined);
    assert.match(repeated.notice, /Idempotency-Key/);
    for (const each of [secret, rotated.secret]) assert.equal((await whoAmI(each)).apiKeyId, apiKeyId);

    await keys.endPreviousSecret({ workspaceId, apiKeyId });
    await keys.endPreviousSecret({ workspaceId, apiKeyId });

    await assert.rejects(whoAmI(secret), { code: 401 });
    assert.equal((await keys.fetchApiKey({ workspaceId, apiKeyId })).previousSecret, null);

    const latest = await keys.rotateApiKey({ workspaceId, apiKeyId }); // without a body: the default overlap
    assert.ok(latest.previousSecret.endsAt > new Date(Date.now() + 23 * 60 * 60 * 1000));
    await keys.revokeApiKey({ workspaceId, apiKeyId });
});

test('the CommonJS build works too', async () => {
    const sdk = createRequire(import.meta.url)('@onehorizon/sdk-js');
    const required = new sdk.TasksApi(new sdk.Configuration({ accessToken: process.env.ONE_API_KEY, basePath }));

    assert.ok(Array.isArray((await required.listTasks({ workspaceId })).tasks));
    await assert.rejects(required.fetchTask({ workspaceId, taskId: 'tsk_0' }), sdk.ApiError);
});
