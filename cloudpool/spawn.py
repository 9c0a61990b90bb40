"""`multiprocessing.spawn`, the very module: fresh interpreters. What is patched there is patched here."""

import sys
from multiprocessing import spawn
from multiprocessing.spawn import *  # for type checkers
from multiprocessing.spawn import (
    WINEXE as WINEXE,
    WINSERVICE as WINSERVICE,
    is_forking as is_forking,
    old_main_modules as old_main_modules,
    prepare as prepare,
    spawn_main as spawn_main,
)

sys.modules[__name__] = spawn
