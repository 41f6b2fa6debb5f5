"""From the unsigned href of a scene to an address that may be opened: signed, shared between processes, looked at."""
