import { messageOf } from '../../lib/errors.ts';
import { openFilesOf } from '../../lib/local/open-file.ts';
import { withLock } from '../../lib/lock.ts';
import { identityOf, namesOf, prefixOf, versionsPrefix } from '../../lib/naming.ts';
import { checkContent, type Policy } from '../../lib/policy/policy.ts';
import { contentOf } from '../../lib/publish/content.ts';
import { folderSender } from '../../lib/publish/from-workspace.ts';
import { publish } from '../../lib/publish/publish.ts';
import type { Store } from '../../lib/store.ts';
import { runIdOf, sourceOf } from '../../lib/workspace.ts';
import type { PlaceOptions } from './place.ts';
import type { LocalModel } from './target.ts';

export interface FillOptions extends PlaceOptions, Policy {
  store: Store;
  /** Where a URI says that it belongs; undefined: as the key template says. */
  prefix: string | undefined;
  keyTemplate: string;
  controlPrefix: string;
  modelName?: string | undefined;
  modelVersion?: string | undefined;
}

/**
 * Publishes what came from the Hub, for the next pod; its URI, or undefined when that did not come about. Of many pods one does it, and no pod
 * waits for another one. A failure is told and passed over: the model is here, and its server must not wait for a store.
 */
export async function fillStore({ place, manifest }: LocalModel, options: FillOptions): Promise<string | undefined> {
  const { store, keyTemplate, controlPrefix, log, progress, concurrency } = options;
  try {
    const identity = identityOf(manifest);
    const names = namesOf(identity, options);
    const prefix = options.prefix ?? prefixOf(keyTemplate, identity, names, controlPrefix);
    const uri = `${store.uri}/${prefix}/`;
    await withLock(place.folder.lock, { log, signal: options.signal, waitTimeout: 0 }, async (signal) => {
      const openFile = openFilesOf(place.files);
      const { files } = manifest;
      const open = (path: string) => openFile(files.find((file) => file.path === path) ?? { path, size: 0 });
      await checkContent({ policy: options, files, open, concurrency, signal, log });
      const send = folderSender({ store, open: openFile, progress }, options);
      await publish({
        store,
        log,
        signal,
        progress,
        content: contentOf(manifest),
        source: await sourceOf(place.folder),
        prefix,
        controlPrefix,
        versionsPrefix: versionsPrefix(keyTemplate, identity, names),
        runId: await runIdOf(place.folder),
        replace: false,
        rayHash: false,
        waitTimeout: 0,
        concurrency,
        send,
      });
    });
    return uri;
  } catch (error) {
    options.signal.throwIfAborted();
    log.warn({ error: messageOf(error) }, 'not published for the next one: the model itself is here');
    return undefined;
  }
}
