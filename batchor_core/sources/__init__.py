"""Where items come from: interfaces, file sources, and several sources as one."""
