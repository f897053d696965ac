"""What is said where Python leaves out assertions: nothing would be tested.

It stands in a module of its own, since the command imports it before pytest loads the plugin.
"""

NO_ASSERTIONS = (
    "the kit tests by assertions, which Python leaves out here: run it without -O and without"
    " PYTHONOPTIMIZE"
)
