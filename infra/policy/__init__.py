"""What no site may have, whatever its file says: checked by the engine at every preview and update."""
