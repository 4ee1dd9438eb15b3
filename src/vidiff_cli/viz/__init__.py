"""Pictures for people: contact sheets, plots, histograms and galleries, without tensors."""
