declare const MODELFERRY_VERSION: string | undefined;

/** The version in package.json, put in by the build. */
export const version = typeof MODELFERRY_VERSION === 'string' ? MODELFERRY_VERSION : '0.0.0-source';
