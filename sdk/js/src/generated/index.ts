// Generated from the API's OpenAPI document: edit that, then `make sdk`.
/* tslint:disable */
/* eslint-disable */
export * from './runtime.js';
export * from './apis/index.js';
export * from './models/index.js';
