#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "adainfer/train/dataset.hpp"

#ifndef ADAINFER_FIXTURES
#define ADAINFER_FIXTURES "tests/fixtures"
#endif

/// What make_training_fixture.py wrote: named row-major matrices.
struct TrainingFixture {
    std::map<std::string, std::vector<double>> records;

    explicit TrainingFixture(const std::string& name) {
        const std::string path = std::string(ADAINFER_FIXTURES) + "/training_" + name + ".txt";
        std::ifstream in(path);
        if (!in) throw std::runtime_error("cannot open " + path);
        std::string key;
        std::size_t rows = 0, cols = 0;
        while (in >> key >> rows >> cols) {
            std::vector<double>& values = records[key];
            values.resize(rows * cols);
            for (double& value : values)
                if (!(in >> value)) throw std::runtime_error(path + ": record " + key + " is cut short");
        }
    }

    const std::vector<double>& operator[](const std::string& key) const { return records.at(key); }

    std::vector<adainfer::Sequence> sequences() const {
        const auto& steps = (*this)["steps"];
        const auto& features = (*this)["features"];
        const auto& labels = (*this)["labels"];
        const std::size_t width = features.size() / labels.size();
        std::vector<adainfer::Sequence> result;
        std::size_t at = 0;
        for (std::size_t s = 0; s < steps.size(); ++s) {
            adainfer::Sequence sequence;
            sequence.n_features = width;
            sequence.group = static_cast<int>((*this)["groups"][s]);
            for (const std::size_t end = at + static_cast<std::size_t>(steps[s]); at < end; ++at) {
                for (std::size_t i = 0; i < width; ++i) sequence.features.push_back(static_cast<float>(features[at * width + i]));
                sequence.labels.push_back(labels[at] > 0 ? 1 : 0);
            }
            result.push_back(sequence);
        }
        return result;
    }
};

/// Message of the adainfer::Error that `call` throws, "" where it throws none.
template <class Call>
std::string error_of(Call&& call) {
    try {
        call();
    } catch (const adainfer::Error& error) {
        return error.what();
    }
    return "";
}

