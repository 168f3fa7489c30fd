# Every target is one line of `python -m`, and makes its own environment first. Variables given to make are settings:
# they reach the command as typed, `make teacher-shards videos='/my/videos, old' teachers=vgg16 clip.windows=2`.
VENV ?= .venv
RUN := $(VENV)/bin/python -m
INSTALLED := $(VENV)/.installed

ifneq (,$(findstring command,$(foreach NAME,RUN INSTALLED QUOTED TYPED OVERRIDES EXTRAS,$(origin $(NAME)))$(origin NAME)))
$(error RUN, INSTALLED, QUOTED, TYPED, OVERRIDES, EXTRAS and NAME are the Makefile's own: no setting is called so)
endif

# What was typed, one single-quoted word of the shell a setting; VENV and PYTHON are make's. Sorted, so that a key stands
# before those inside it. `value` does not expand the $ in them; as make's own environment of a command they would be
# expanded, since make 4.4 in $(shell) too: so they are unexported before there is one.
QUOTED = '$(subst ','\'',$(1))'
TYPED := $(foreach NAME,$(sort $(.VARIABLES)),$(if $(filter command,$(origin $(NAME))),$(filter-out VENV PYTHON,$(NAME))))
OVERRIDES = $(foreach NAME,$(TYPED),$(call QUOTED,$(NAME)=$(value $(NAME))))
$(foreach NAME,$(TYPED),$(eval unexport $(NAME)))

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*## .*/\1/p' Makefile)

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

setup: $(INSTALLED) ## Make the environment (VENV=.venv, PYTHON=python3)

demo: $(INSTALLED) ## The main job end to end, on a small synthetic corpus
	$(RUN) evaluate.demo $(OVERRIDES)

teacher-shards: $(INSTALLED) ## Stage one: videos=... shards=... teachers=alexnet
	$(RUN) pipeline $(OVERRIDES)

relabel: $(INSTALLED) ## Add another teacher set to finished shards: shards=... teachers=resnet50
	$(RUN) pipeline.relabel $(OVERRIDES)

status: $(INSTALLED) ## How far a folder of shards is, over all ranks: shards=... json=true
	$(RUN) pipeline.output.status $(OVERRIDES)

check-shards: $(INSTALLED) ## Verify every shard of a folder: shards=...
	$(RUN) shards $(OVERRIDES)

train: $(INSTALLED) ## Stage two: shards=... run=... student=soundnet8 loss=kl
	$(RUN) train $(OVERRIDES)

sweep: $(INSTALLED) ## Train every combination of values: student=soundnet5,soundnet8 loss=kl,l2
	$(RUN) train --multirun $(OVERRIDES)

published: $(INSTALLED) ## Fetch the authors' published SoundNet8 weights (53 MB) and convert them
	$(RUN) train.checkpoint.published $(OVERRIDES)

finetune: $(INSTALLED) ## Teach a student your own classes: root=<a folder per class> checkpoint=...
	$(RUN) evaluate.supervised.finetune $(OVERRIDES)

export: $(INSTALLED) ## A checkpoint as a file for elsewhere, checked, with a model card: checkpoint=... format=onnx
	$(RUN) train.checkpoint.export $(OVERRIDES)

eval-dcase: $(INSTALLED) ## Score a checkpoint on DCASE 2013: root=... checkpoint=... layer=pool5
	$(RUN) evaluate benchmark=dcase2013 $(OVERRIDES)

eval-esc50: $(INSTALLED) ## The same on ESC-50
	$(RUN) evaluate benchmark=esc50 $(OVERRIDES)

eval-esc10: $(INSTALLED) ## The same on ESC-10, the part of ESC-50 that it is
	$(RUN) evaluate benchmark=esc10 $(OVERRIDES)

eval-folder: $(INSTALLED) ## The same on your own sounds: root=<a folder per class, or a CSV file>
	$(RUN) evaluate benchmark=folder $(OVERRIDES)

compare: $(INSTALLED) ## Two evaluations on the same recordings: is one better? a=... b=... (scores.json)
	$(RUN) evaluate.probe.compare $(OVERRIDES)

evidence: $(INSTALLED) ## Whether sound tells what is seen in your videos: shards=... checkpoint=... layer=pool5
	$(RUN) evaluate.probe.evidence $(OVERRIDES)

supervised: $(INSTALLED) ## Train on a benchmark's labels, from scratch or from a checkpoint: benchmark=... root=...
	$(RUN) evaluate.supervised $(OVERRIDES)

tag: $(INSTALLED) ## What is in a sound, as names over time: files=... checkpoint=... top=5
	$(RUN) evaluate.inference.tag $(OVERRIDES)

embed: $(INSTALLED) ## A layer's features of any sounds: files=... checkpoint=... layer=pool5 out=features.npz
	$(RUN) evaluate.inference.embed $(OVERRIDES)

listen: $(INSTALLED) ## A page for the browser that names what it hears, a file or the microphone: checkpoint=... similar=/my/sounds
	$(RUN) evaluate.inference.listen $(OVERRIDES)

reproduce: $(INSTALLED) ## Every table and figure of the paper, beside the paper's own numbers
	$(RUN) evaluate.reproduce $(OVERRIDES)

bench-pipeline: $(INSTALLED)-bench ## Time the reader of stage one against its peers
	$(RUN) evaluate.bench.video.decoding $(OVERRIDES)

bench-sampling: $(INSTALLED) ## What cheaper frames save and what they cost in labels: videos=... rounds=3
	$(RUN) evaluate.bench.video.sampling $(OVERRIDES)

bench-scale: $(INSTALLED) ## Weigh planning, memory and rates here, and estimate two million videos
	$(RUN) evaluate.bench.scale $(OVERRIDES)

bench-colour: $(INSTALLED) ## How far a teacher agrees on films in other colours than sRGB: videos=... frames=8
	$(RUN) evaluate.bench.video.colour $(OVERRIDES)

bench-executor: $(INSTALLED) ## Time what stage one costs beside decoding: its parent process, waiting decoders
	$(RUN) evaluate.bench.executor $(OVERRIDES)

bench-train: $(INSTALLED) ## Time stage two: reader, loop, compiler; device=cpu batch=4 steps=3
	$(RUN) evaluate.bench.training $(OVERRIDES)

gpu-check: $(INSTALLED) ## All that a first GPU is needed for, on one page; device=cpu batch=2 steps=2 rounds=1 clips=16
	$(RUN) evaluate.bench.gpu.check $(OVERRIDES)

test: $(INSTALLED) ## Run the tests, all but the slow ones, on all cores
	$(RUN) pytest -n auto --dist worksteal

test-faults: $(INSTALLED) ## Run the slow tests: killed processes, full disks, mutated videos, Ray, a browser, the wheel
	$(RUN) pytest -m faults

test-machines: $(INSTALLED) ## Run the tests that compute as on other CPUs; full=true: all, on a busy machine
	$(RUN) tests.project.machines $(OVERRIDES)

test-gpu: $(INSTALLED) ## Run the tests that need a GPU
	$(RUN) pytest -m gpu

settings: $(INSTALLED) ## Write docs/settings.md, the page of all settings, anew
	$(RUN) tests.docs.test_settings_page

lint: $(INSTALLED) ## Check style and format
	$(RUN) ruff check . && $(RUN) ruff format --check .

types: $(INSTALLED) ## Check types
	$(RUN) mypy

$(INSTALLED): EXTRAS := dev,demo
$(INSTALLED)-bench: EXTRAS := dev,demo,bench
$(INSTALLED) $(INSTALLED)-bench: pyproject.toml constraints.txt conf/setup.sh
	@sh conf/setup.sh $(VENV) $(EXTRAS) '$(PYTHON)'
	@touch $@
