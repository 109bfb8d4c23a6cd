export * from './generated/index.js';
export { ApiError, Configuration, type ConfigurationParameters } from './client.js';
