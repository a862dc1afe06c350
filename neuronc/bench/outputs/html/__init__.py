"""A benchmark document as one offline page; see `neuronc.bench.outputs.html.page.write_html`."""
