/* Stand in for libnvidia-ml.so.1: tell the GPUs that the file `simulated-gpus` beside this library lists.
 *
 * One line a GPU: UUID;model;bytes of memory;bytes used;utilization of GPU;of memory;temperature;milliwatts
 * A value that is missing is one that the model cannot tell (NVML_ERROR_NOT_SUPPORTED). Lines with # are comments.
 * The prototypes are the library's own, from nvml.h: https://docs.nvidia.com/deploy/nvml-api/
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9 };
enum { UUID, MODEL, MEMORY, USED, GPU_PERCENT, MEMORY_PERCENT, TEMPERATURE, MILLIWATTS, FIELDS };
enum { MOST_GPUS = 16, LINE_BYTES = 512 }; /* the biggest machine type has 16 (a2-megagpu-16g) */

typedef struct device { char line[LINE_BYTES]; char *field[FIELDS]; } *nvmlDevice_t;
typedef struct { unsigned int gpu, memory; } nvmlUtilization_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;

static struct device devices[MOST_GPUS];
static unsigned int count;

static void split(struct device *device) {
    char *rest = device->line;
    for (int i = 0; i < FIELDS; i++) device->field[i] = rest ? strsep(&rest, ";\n") : NULL;
}

static int number(nvmlDevice_t device, int field, unsigned long long *value) {
    const char *text = device->field[field];
    if (!text || !*text) return NOT_SUPPORTED;
    *value = strtoull(text, NULL, 10);
    return SUCCESS;
}

static int text(const char *value, char *buffer, unsigned int bytes) {
    snprintf(buffer, bytes, "%s", value ? value : "");
    return SUCCESS;
}

int nvmlInit_v2(void) {
    Dl_info self;
    char path[4096];
    if (!dladdr((void *)nvmlInit_v2, &self)) return DRIVER_NOT_LOADED;
    const char *slash = strrchr(self.dli_fname, '/');
    int folder = slash ? (int)(slash - self.dli_fname) : 1;
    snprintf(path, sizeof path, "%.*s/simulated-gpus", folder, slash ? self.dli_fname : ".");
    FILE *file = fopen(path, "r");
    if (!file) return DRIVER_NOT_LOADED;
    for (count = 0; count < MOST_GPUS && fgets(devices[count].line, LINE_BYTES, file);)
        if (devices[count].line[0] != '#') split(&devices[count++]);
    fclose(file);
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *version, unsigned int bytes) { return text("580.126.09", version, bytes); }

int nvmlDeviceGetCount_v2(unsigned int *found) { *found = count; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    if (index >= count) return INVALID_ARGUMENT;
    *device = devices + index;
    return SUCCESS;
}

int nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int bytes) {
    return text(device->field[MODEL], name, bytes);
}

int nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int bytes) {
    return text(device->field[UUID], uuid, bytes);
}

/* The number in /dev/nvidiaN. */
int nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor) {
    *minor = (unsigned int)(device - devices);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    memory->used = 0;
    if (number(device, MEMORY, &memory->total)) return NOT_SUPPORTED;
    number(device, USED, &memory->used);
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    unsigned long long gpu, memory;
    if (number(device, GPU_PERCENT, &gpu) || number(device, MEMORY_PERCENT, &memory)) return NOT_SUPPORTED;
    rates->gpu = gpu, rates->memory = memory;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned int *celsius) {
    unsigned long long value;
    if (sensor != 0 || number(device, TEMPERATURE, &value)) return NOT_SUPPORTED;
    *celsius = value;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts) {
    unsigned long long value;
    if (number(device, MILLIWATTS, &value)) return NOT_SUPPORTED;
    *milliwatts = value;
    return SUCCESS;
}
