"""Trained models in the browser, by Gradio: the command `app`.

`app` puts the tabs together. Each other module is a tab: what it computes is a class or a function
that knows nothing of the page, and `add_..._tab` puts it there.
"""
