// Against a workspace with a quota of 40 requests in 6 seconds, under the tier `small`.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Configuration, TasksApi } from '@onehorizon/sdk-js';

const workspaceId = 'current';
const parameters = { accessToken: process.env.ONE_API_KEY, basePath: process.env.SITE };

test('45 calls in a row all succeed, since the client waits', async () => {
    const statuses = [];
    const fetchApi = async (...request) => {
        const response = await fetch(...request);
        statuses.push(response.status);
        return response;
    };
    const tasks = new TasksApi(new Configuration({ ...parameters, fetchApi }));

    for (let number = 1; number <= 45; number += 1) {
        await tasks.createTask({ workspaceId, task: { title: `Imported task ${number}` } });
    }

    assert.equal(statuses.filter((status) => status === 201).length, 45);
    assert.ok(statuses.includes(429));
});

test('without waiting they do not', async () => {
    const tasks = new TasksApi(new Configuration({ ...parameters, retry: false }));

    await assert.rejects(
        async () => {
            for (let number = 1; number <= 45; number += 1) await tasks.listTasks({ workspaceId });
        },
        { code: 429, message: /^small rate limit exceeded, retry in \d seconds?$/ },
    );
});
