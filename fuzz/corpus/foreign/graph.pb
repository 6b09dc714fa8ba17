graph.pb


xPlaceholder