"""The parts of `vidiff evaluate`: what is compared, by which protocol, and what is measured."""
