/**
 * Which cluster, image and servers: so that any cluster will do. KUBECONFIG is kubectl's own.
 * Addresses are those that pods use; `_LOCAL` ones are for the tests themselves, where they differ.
 */
const { env } = process;

function needed(name: string): string {
  const value = env[name];
  if (!value) throw new Error(`the cluster tests need ${name} in the environment`);
  return value;
}

export const settings = {
  image: needed('TEST_IMAGE'),
  /** The same image with the fake Hub at /app/fake-hub.cjs. */
  hubImage: env.TEST_HUB_IMAGE || needed('TEST_IMAGE'),
  s3: {
    url: needed('TEST_S3_ENDPOINT_URL'),
    localUrl: env.TEST_S3_ENDPOINT_URL_LOCAL || needed('TEST_S3_ENDPOINT_URL'),
    accessKeyId: needed('TEST_S3_ACCESS_KEY_ID'),
    secretAccessKey: needed('TEST_S3_SECRET_ACCESS_KEY'),
  },
  registry: {
    url: needed('TEST_MODEL_REGISTRY_URL'),
    localUrl: env.TEST_MODEL_REGISTRY_URL_LOCAL || needed('TEST_MODEL_REGISTRY_URL'),
  },
  /** Run after a namespace is gone, where volumes must be made claimable again by hand. */
  freeVolumesCommand: env.TEST_FREE_VOLUMES_COMMAND,
  /** Lets tests restart the engines' controllers: not for a cluster that others use. */
  mayRestart: env.TEST_MAY_RESTART_ENGINES === 'true',
  /** A shell command that stops the node, with all that runs on it, and starts it again: only for a cluster that may be restarted. */
  restartNodeCommand: env.TEST_RESTART_NODE_COMMAND,
  /** Keeps the namespaces, to look into them. */
  keep: env.TEST_KEEP === 'true',
};
