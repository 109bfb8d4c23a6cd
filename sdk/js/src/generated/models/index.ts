// Generated from the API's OpenAPI document: edit that, then `make sdk`.
/* tslint:disable */
/* eslint-disable */
export * from './ApiKey.js';
export * from './ApiKeyChanges.js';
export * from './ApiKeyList.js';
export * from './ApiKeyPrincipal.js';
export * from './ApiKeyRotation.js';
export * from './ApiKeyStatus.js';
export * from './Contributor.js';
export * from './CreatedApiKey.js';
export * from './ErrorBody.js';
export * from './Member.js';
export * from './MemberList.js';
export * from './NewApiKey.js';
export * from './NewTask.js';
export * from './Person.js';
export * from './PreviousSecret.js';
export * from './Principal.js';
export * from './Quota.js';
export * from './QuotaLimit.js';
export * from './Role.js';
export * from './RotatedApiKey.js';
export * from './Task.js';
export * from './TaskChanges.js';
export * from './TaskContributionType.js';
export * from './TaskKind.js';
export * from './TaskList.js';
export * from './TaskScope.js';
export * from './TaskStatus.js';
export * from './TaskVisibility.js';
export * from './UserPrincipal.js';
export * from './Workspace.js';
export * from './WorkspaceList.js';
