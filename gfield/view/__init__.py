"""`gfield view`: a page on this machine that shows a store's frames; see `gfield.view.server`."""
