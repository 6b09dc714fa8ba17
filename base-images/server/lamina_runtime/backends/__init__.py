"""One module for each way to compute; lamina_runtime.backend says what such a module has. An image has all of them, and uses one."""
