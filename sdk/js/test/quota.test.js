// `tests/system/sdk/test_js.py` prepares the workspace: its quota, of the tier `small`, is exhausted for some seconds.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Configuration, TasksApi } from '@onehorizon/sdk-js';

const workspaceId = 'current';
const parameters = { accessToken: process.env.ONE_API_KEY, basePath: process.env.SITE };

test('45 calls in a row succeed, because the client waits', async () => {
    const tasks = new TasksApi(new Configuration(parameters));

    for (let number = 1; number <= 45; number += 1) {
        await tasks.createTask({ workspaceId, task: { title: `Imported task ${number}` } });
    }
});

test('without waiting they fail', async () => {
    const tasks = new TasksApi(new Configuration({ ...parameters, retry: false }));

    await assert.rejects(
        async () => {
            for (let number = 1; number <= 45; number += 1) await tasks.listTasks({ workspaceId });
        },
        { code: 429, message: /^small rate limit exceeded, retry in \d+ seconds?$/ },
    );
});
