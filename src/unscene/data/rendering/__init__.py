"""Datasets of rendered 3-D scenes; the renderers come with `pip install "unscene[render]"`."""
