// Generated from the API's OpenAPI document: edit that, then `make sdk`.
/* tslint:disable */
/* eslint-disable */
export * from './ApiKeysApi.js';
export * from './MeApi.js';
export * from './TasksApi.js';
export * from './WorkspacesApi.js';
