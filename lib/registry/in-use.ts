import type { Registry } from './registry.ts';

/** States in which nobody relies on an artifact any more (model-registry.yaml, ArtifactState). */
const overStates = ['ABANDONED', 'MARKED_FOR_DELETION', 'DELETED'];

/** One form for a model's place, however it was registered: without a slash at its end, and without a query. */
export function placeOf(uri: string): string {
  return uri.replace(/[?#].*$/, '').replace(/\/+$/, '');
}

/** The places that the registry's artifacts name, each with the state: LIVE, and whatever is not given up (PENDING, UNKNOWN). */
export async function placesInUse(registry: Registry): Promise<Map<string, string>> {
  const places = new Map<string, string>();
  for (const { uri, state = 'UNKNOWN' } of await registry.list('artifact')) {
    if (uri === undefined || overStates.includes(state)) continue;
    const place = placeOf(uri);
    if (places.get(place) !== 'LIVE') places.set(place, state);
  }
  return places;
}
