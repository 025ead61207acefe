/** Results that every step with a manifest gives (design section 5). */
export const manifestResults = {
  manifest: 'Path of manifest.json, relative to the workspace.',
  'manifest-sha256': 'sha256 of manifest.json, bare hex.',
  commit: 'Commit of the model on the Hub.',
  'file-count': 'Number of files.',
  'total-bytes': 'Bytes of all files.',
} as const;

/** Results of the steps that publish. */
export const publishResults = {
  ...manifestResults,
  'model-uri': 'Where the model lies: s3://bucket/prefix/, always with the slash; an archive: its object.',
  'uploaded-bytes': 'Bytes that were sent.',
  'copied-bytes': 'Bytes that were copied inside the store.',
  unchanged: 'true when the same model was published before.',
  'model-ARTIFACT_URI': 'The model URI, for Tekton Chains.',
  'model-ARTIFACT_DIGEST': 'sha256:<digest of the manifest, or of the archive>, for Tekton Chains.',
} as const;
