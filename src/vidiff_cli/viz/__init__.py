"""Pictures for people: contact sheets of frames and plots of a training run. Nothing here knows a tensor."""
