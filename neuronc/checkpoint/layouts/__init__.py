"""Reading the checkpoint folders of other tools, where config.json and the files say everything."""
