// Generated from the API's OpenAPI document: edit that, then `make sdk`.
export const VERSION = '0.1.0';
