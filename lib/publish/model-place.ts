import { archiveMethod } from '../methods.ts';
import { type ControlKeys, controlKeys } from './control.ts';

/** Where a model lies in a store, and its records. */
export interface ModelPlace {
  /** Behind the store's URI and a slash: `<prefix>/`, or the key of an archive. */
  path: string;
  keys: Omit<ControlKeys, 'stored'>;
}

const archiveEnd = '.tar.zst';

/** The place of a model that was made by that method (undefined: as it came): its prefix, or one object below the control prefix, where no server looks. */
export function placeOf(controlPrefix: string, prefix: string, method: string | undefined): ModelPlace {
  return method === archiveMethod ? archivePlace(controlPrefix, prefix) : { path: `${prefix}/`, keys: controlKeys(controlPrefix, prefix) };
}

/** The place that a model URI names, by what stands in it behind the store's own. */
export function placeAt(controlPrefix: string, path: string): ModelPlace {
  const start = archivesIn(controlPrefix);
  return path.startsWith(start) && path.endsWith(archiveEnd)
    ? archivePlace(controlPrefix, path.slice(start.length, -archiveEnd.length))
    : placeOf(controlPrefix, path, undefined);
}

/** The records lie beside the archive: under `manifests/` stand models that servers can read, and nothing else. */
function archivePlace(controlPrefix: string, prefix: string): ModelPlace {
  const path = `${archivesIn(controlPrefix)}${prefix}${archiveEnd}`;
  // Only the claim lies where all claims lie. No model has that prefix: it lies in the control prefix.
  const { claim, probe } = controlKeys(controlPrefix, path);
  return { path, keys: { manifest: `${path}.json`, source: `${path}.source.json`, claim, probe } };
}

function archivesIn(controlPrefix: string): string {
  return `${controlPrefix}/archives/`;
}
