"""What the command line does about engines: an image for their hosts, a check of every hop, what sessions left there."""
