"""One design a file: which points of the declared space are measured.

A design is an object of a class below `study.plan.designs.design.Design`, named in `study.config.designs` and imported when it
is first used. From outside: ``DESIGNS.register("mine", "my_package.mine:MINE")``.
"""
