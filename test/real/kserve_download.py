"""KServe's storage initializer (python/storage), as its container runs it: URI, folder."""

import json
import sys

from kserve_storage import Storage

if __name__ == "__main__":
    print("RESULT " + json.dumps(Storage.download(sys.argv[1], sys.argv[2])))
