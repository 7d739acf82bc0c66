"""Export: graphs and bundles for boards, traced from the learning core."""
