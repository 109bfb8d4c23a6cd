export * from './generated/index.js';
// These replace the generated ones of the same name.
export {
    ApiError,
    BaseAPI,
    Configuration,
    type ConfigurationParameters,
    DefaultConfig,
    JSONApiResponse,
} from './client.js';
export { ApiKeysApi, TasksApi } from './lists.js';
