"""The whole main job on two portraits that come inside installed packages."""
