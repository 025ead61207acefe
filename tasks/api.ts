/**
 * modelferry for Node programs: the steps as functions, with the same parameters, defaults and checks as the commands.
 * Whatever is not given is read from the environment by the names that the commands know (S3_BUCKET, HF_TOKEN, AWS_*, ...).
 * A failure is a ModelferryError, whose `kind` tells what to do about it.
 */

export * from './api/cache.ts';
export * from './api/check.ts';
export * from './api/errors.ts';
export * from './api/fetch.ts';
export * from './api/options.ts';
export * from './api/publish.ts';
