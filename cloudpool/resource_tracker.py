"""`multiprocessing.resource_tracker`, the very module: what the stdlib's own objects leave. What is patched there is patched here."""

import sys
from multiprocessing import resource_tracker
from multiprocessing.resource_tracker import *  # for type checkers
from multiprocessing.resource_tracker import (
    ResourceTracker as ResourceTracker,
    _resource_tracker as _resource_tracker,
    getfd as getfd,
    main as main,
)

sys.modules[__name__] = resource_tracker
