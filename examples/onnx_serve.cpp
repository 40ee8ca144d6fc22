// Serve `recommender.onnx` with the distribution's ONNX Runtime, without mtaw_fast:
//
//     apt-get install libonnxruntime-dev
//     g++ -std=c++17 -O2 -I/usr/include/onnxruntime onnx_serve.cpp -lonnxruntime -o onnx_serve
//     ./onnx_serve BUNDLE/recommender-<hash>.onnx ITEM [ITEM ...]
//
// The bundle's manifest.json names the file.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <string>
#include <system_error>
#include <vector>

namespace {

using Shape = std::vector<std::int64_t>;

// A tensor of external ids: text, or int64 if `numbers`. `values` stores the int64 ids and must outlive the tensor.
Ort::Value ids_of(const std::vector<std::string>& ids, const Shape& shape, bool numbers,
                  std::vector<std::int64_t>& values) {
    if (numbers) {
        values.clear();
        for (const std::string& id : ids) values.push_back(std::stoll(id));
        const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        return Ort::Value::CreateTensor(memory, values.data(), values.size(), shape.data(), shape.size());
    }
    Ort::AllocatorWithDefaultOptions allocator;
    Ort::Value text =
        Ort::Value::CreateTensor(allocator, shape.data(), shape.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING);
    std::vector<const char*> pointers;
    for (const std::string& id : ids) pointers.push_back(id.c_str());
    text.FillStringTensor(pointers.data(), pointers.size());
    return text;
}

bool is_no_number(const std::string& id) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), number);
    return error != std::errc{} || end != id.data() + id.size();
}

template <typename T>
Ort::Value one_of(T& value) {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const std::array<std::int64_t, 1> shape{1};
    return Ort::Value::CreateTensor(memory, &value, 1, shape.data(), shape.size());
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::cerr << "usage: onnx_serve GRAPH [ITEM ...]\n";
        return 2;
    }
    std::vector<std::string> clicks(argv + 2, argv + argc);
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR);
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);
    Ort::Session session(env, argv[1], options);

    const auto type = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetElementType();
    const bool numbers = type == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    // What no int64 holds is an unknown item.
    if (numbers) clicks.erase(std::remove_if(clicks.begin(), clicks.end(), is_no_number), clicks.end());
    const bool timed = session.GetInputCount() > 7;  // a bundle with trends has the input `now`
    auto length = static_cast<std::int32_t>(clicks.size());
    std::int64_t k = 10;
    std::int64_t now =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
    bool use_allow = false, exclude_seen = false;
    std::vector<std::int64_t> clicked, excluded, allowed;

    std::vector<const char*> names{"session", "lengths", "k", "exclude", "allow", "use_allow", "exclude_seen"};
    std::vector<Ort::Value> inputs;
    inputs.push_back(ids_of(clicks, {1, length}, numbers, clicked));
    inputs.push_back(one_of(length));
    inputs.push_back(one_of(k));
    inputs.push_back(ids_of({}, {0}, numbers, excluded));
    inputs.push_back(ids_of({}, {0}, numbers, allowed));
    inputs.push_back(one_of(use_allow));
    inputs.push_back(one_of(exclude_seen));
    if (timed) {
        names.push_back("now");
        inputs.push_back(one_of(now));
    }
    const std::array<const char*, 2> outputs{"items", "scores"};
    auto answer = session.Run(Ort::RunOptions{nullptr}, names.data(), inputs.data(), inputs.size(), outputs.data(),
                              outputs.size());

    const float* const scores = answer[1].GetTensorData<float>();
    for (std::int64_t rank = 0; rank < k && std::isfinite(scores[rank]); ++rank) {
        if (numbers) {
            std::cout << answer[0].GetTensorData<std::int64_t>()[rank];
        } else {
            std::cout << answer[0].GetStringTensorElement(static_cast<std::size_t>(rank));
        }
        std::cout << '\t' << scores[rank] << '\n';
    }
    return 0;
}
